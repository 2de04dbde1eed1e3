"""A campaign from zero labels on real tissue: python examples/modal_loop.py.

The oracle stands for your expert: it gives the label of each image that is asked for.
"""

import numpy as np

from aift_sklearn import AffinePatches, AIFTClassifier, AIFTLearner, CNNClassifier
from aift_sklearn.study import load_tissue

tissue = load_tissue(size=32)
print(tissue)

classifier = AIFTClassifier(
    CNNClassifier(max_epochs=4, class_weight="balanced"),
    patches=AffinePatches.for_microscopy(n_patches=8),
    classes=tissue.classes,
    random_state=0,
)
learner = AIFTLearner(classifier)
unlabelled = np.arange(len(tissue.X))
for number in range(4):
    indices, images = learner.query(tissue.X[unlabelled], n_instances=15, random_state=number)
    answers = tissue.y[unlabelled[indices]]
    learner.teach(images, answers)
    unlabelled = np.delete(unlabelled, indices)
    print(
        f"round {number}: {len(learner.y_training)} labels, "
        f"accuracy {learner.score(tissue.X_test, tissue.y_test):.3f}"
    )
