"""An engine that records its draws, and needs no model."""

from pipeline.core.engine import Completion, Request, Sampler

SAMPLER = Sampler(1.0, 0.95, 50, 1.0, True, 16, (), 0)


def requests(images=8, draws=range(4), question="?"):
    return [Request(f"i{n}", b"", question, draws) for n in range(images)]


class Counting:
    """An engine that draws three images at a time, and records the (image, number) of every draw."""

    def __init__(self, model="m", failing=()):
        self.model, self.failing, self.draws = model, failing, []

    def fingerprint(self):
        return {"engine": "counting/1", "model": self.model}

    def draw(self, requests, sampler):
        for start in range(0, len(requests), 3):
            batch = []
            for request in requests[start : start + 3]:
                for draw in request.draws:
                    self.draws.append((request.image_id, draw))
                    error = "down" if request.image_id in self.failing else None
                    text = "" if error else f"{request.image_id} {request.question} {draw} {sampler.seed} “ü”"
                    batch.append(Completion(request.image_id, draw, text, 7, draw % 2 == 0, error))
            yield batch
