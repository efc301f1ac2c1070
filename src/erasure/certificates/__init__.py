"""Signed statements about an unlearning: what was done to which model, judged how, by which evidence.

The parts build on one another, and none imports torch, so that a certificate can be checked anywhere:

``digests``
    Digests of files, folders and people's ids.
``statement``
    What is claimed: an in-toto statement whose subjects are the models and whose predicate is the unlearning.
``signing``
    Ed25519 keys, and the signature around a statement (a DSSE envelope).
``verifying``
    Checks of signature, models, evidence and ledger, each with a sentence, and what they do and do not prove.
"""
