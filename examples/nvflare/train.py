"""What a site trains: a logistic regression on its part of scikit-learn's digits.  Nothing here is secagg's."""

from __future__ import annotations

import numpy as np
import nvflare.client as flare
from nvflare.app_common.abstract.fl_model import FLModel
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

SITES = 5


def own_part(site: str) -> tuple[np.ndarray, np.ndarray]:
    """The images of a site, as site-1 .. site-5 are called in the simulator."""
    images, labels = load_digits(return_X_y=True)
    number = int(site.rsplit("-", 1)[-1])
    mine = np.arange(len(labels)) % SITES == number % SITES
    return images[mine] / 16.0, labels[mine]


def main() -> None:
    flare.init()
    images, labels = own_part(flare.get_site_name())
    while flare.is_running():
        model = flare.receive()
        weights = model.params["numpy_key"]
        network = LogisticRegression(max_iter=5, warm_start=True)
        network.classes_ = np.arange(10)
        network.coef_, network.intercept_ = weights[:, :-1].copy(), weights[:, -1].copy()
        accuracy = network.score(images, labels)  # of the model that came
        network.fit(images, labels)
        flare.send(
            FLModel(
                params={"numpy_key": np.column_stack([network.coef_, network.intercept_])},
                metrics={"accuracy": accuracy},
                meta={"NUM_STEPS_CURRENT_ROUND": len(labels)},
            )
        )


if __name__ == "__main__":
    main()
