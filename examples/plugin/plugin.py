"""A plug-in: runs in a process of its own, in the Python that it was written for."""

import collections
import sys


class Report(dict):
    """What a run found; `summary()` is made where the data is."""

    def summary(self):
        most = max(self, key=self.get)
        return f"{len(self)} words, most often {most!r} ({self[most]})"


class WordCount:
    """Counts the words of a document of the host, which it has no source for."""

    name = "word count"
    python = f"{sys.version_info.major}.{sys.version_info.minor}"

    def run(self, document, progress):
        counts = collections.Counter()
        lines = document.lines
        for number, line in enumerate(lines, 1):
            counts.update(line.lower().split())
            if number % 2 == 0:
                progress(number, len(lines))
        document.tags.append(self.name)
        return Report(counts)


plugin = WordCount()
