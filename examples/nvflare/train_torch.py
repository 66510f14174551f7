"""What a site trains with PyTorch: a small network on its part of scikit-learn's digits.  Nothing here is secagg's."""

from __future__ import annotations

import nvflare.client as flare
import torch
from nvflare.app_common.abstract.fl_model import FLModel
from sklearn.datasets import load_digits
from torch import nn

SITES = 5
STEPS = 20


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 32, bias=False), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layers(images)


def own_part(site: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The images of a site, as site-1 .. site-5 are called in the simulator."""
    images, labels = load_digits(return_X_y=True)
    number = int(site.rsplit("-", 1)[-1]) % SITES
    return torch.tensor(images[number::SITES] / 16.0, dtype=torch.float32), torch.tensor(labels[number::SITES])


def main() -> None:
    flare.init()
    images, labels = own_part(flare.get_site_name())
    network = Net()
    while flare.is_running():
        model = flare.receive()
        network.load_state_dict(model.params)
        network.eval()
        with torch.no_grad():  # the accuracy of the model that came
            accuracy = float((network(images).argmax(1) == labels).float().mean())
        network.train()
        optimizer = torch.optim.SGD(network.parameters(), lr=0.2)
        for _ in range(STEPS):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images), labels).backward()
            optimizer.step()
        flare.send(
            FLModel(
                params=network.state_dict(),
                metrics={"accuracy": accuracy},
                meta={"NUM_STEPS_CURRENT_ROUND": len(labels)},
            )
        )


if __name__ == "__main__":
    main()
