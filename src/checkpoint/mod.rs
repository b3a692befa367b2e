//! Weights of a model folder.
