"""Each value of each state of the suspended programs, replaced by each kind of junk, as a process of its
own: refused, or run for some steps. Prints how many were refused and how many accepted."""

import faulthandler
import sys
import warnings

import forge
import suspended_programs
from objspace._core import Reducer

VARIABLES = 4


def main():
    faulthandler.enable()
    warnings.simplefilter("ignore")
    sys.unraisablehook = lambda _error: None
    refused = accepted = 0
    reduce = Reducer("auto")
    for name in suspended_programs.PROGRAMS:
        steps, _ = suspended_programs.finish(suspended_programs.start(name))
        for point in range(steps + 1):
            program = suspended_programs.start(name)
            suspended_programs.advance(program, point)
            make, args, state, _, _, setter = reduce(program)
            for index in range(VARIABLES, len(state)):
                for junk in forge.JUNK:
                    made = make(*args)
                    values = list(state)
                    values[index] = junk()
                    try:
                        setter(made, tuple(values))
                    except (TypeError, ValueError):
                        refused += 1
                        continue
                    accepted += 1
                    try:
                        for _ in range(3):
                            made.send(None)
                    except (Exception, GeneratorExit):
                        pass
    print(refused, accepted)


if __name__ == "__main__":
    main()
