"""From texts to arrays: tokenizers, vocabulary, pretrained vectors, ragged corpora, batches. Imports torchtext."""
