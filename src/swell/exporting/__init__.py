"""Embeddings and encoders written for other programs: what leaves the house.

`embeddings` streams features to files; `write` writes an encoder, with the preparation of its samples, to one file.
`graph` puts both into one traced program (uint8 images or raw vectors in, features out), `portable` turns that into
JSON that ten lines of torch run, `exported` reads such a file back.
"""
