"""Pure torch, Lightning and scikit-learn: from a dataset folder to candidates ready to release."""
