"""From texts to tensors: tokenizer, vocabulary, word vectors, ragged corpora and batches. Imports torchtext.

In reading order: tokenizer (text to tokens), vocabulary (tokens to numbers), vectors and lexicons (what is known of a
word before training), spans (where a row lies in its group's texts), corpus (the arrays), encode (rows to a corpus),
batches (a corpus to tensors).
"""
