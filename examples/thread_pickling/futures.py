"""Two futures of one generator: it is copied, and each copy is told something else."""

import copy

from objspace import pickling


def negotiation():
    offer, log = 100, []
    while True:
        answer = yield offer
        log.append(answer)
        if answer == "yes":
            return offer, log
        offer -= 10 * len(log)


def end(game, answers):
    for answer in answers:
        try:
            game.send(answer)
        except StopIteration as stop:
            return stop.value


if __name__ == "__main__":
    pickling.install()
    game = negotiation()
    next(game)
    game.send("no")
    patient = copy.deepcopy(game)
    print("at once: ", end(game, ["yes"]))
    print("patient: ", end(patient, ["no", "no", "yes"]))
