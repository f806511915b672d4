"""Measure Atoll against the standard library, threads and processes, and print the ratios.

    python bench/run.py                        everything, less than five minutes
    python bench/run.py --quick                everything, roughly, less than half a minute
    python bench/run.py --only codec calls     the subjects whose names hold one of the words
    python bench/run.py --cores 16             on so many cores of a bigger machine; --json FILE keeps the results

The results are also written as JSON, by default to bench/results/<version>.json, from which
pages.py makes the tables of README.md and docs/performance.md.  A missed goal is printed as such and is no error:
the exit status is 1 only when something broke.
"""

import sys

# report is imported here and not above: worker processes import this file, and stay small
if __name__ == "__main__":
    from report import main

    sys.exit(main(__doc__))
