"""Recurrent models, from the equations of a cell to the ensemble that predicts labels for raw text.

In reading order: cells (RNN, LSTM and GRU as equations), pooling (hidden states to a vector a span),
span_classifier (the one model), inference (predictions for a corpus), bundle (a trained model as files), decisions
(from predictions to labels), ensemble (several models' predictions mixed and calibrated), predictor (raw text in,
predictions and explanations out).
"""
