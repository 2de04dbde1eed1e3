"""From labelled candidates to a trained estimator, whatever the estimator is."""
