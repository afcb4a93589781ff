"""From texts to tensors: tokens, word vectors, ragged corpora and batches. Imports torchtext.

In reading order: vocabulary (a text's tokens and their numbers), vectors and lexicons (what is known of a word before
training), corpus (the arrays), encode (rows to a corpus), batches (a corpus to tensors).
"""
