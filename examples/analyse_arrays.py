"""Analyse the measurements of weather stations with pandas and numpy, four ways.

What happens when you run this (``make run``, or ``python examples/analyse_arrays.py``):

1. It writes a CSV file for each of 48 stations: a month of invented measurements, one a minute.
2. For each file pandas parses it, takes the numbers out of the text that the sensors write, drops what a
   faulty one wrote, takes means of ten minutes and groups by the hour; numpy fits a model with a daily
   cycle and a trend, and repeats that for 150 random samples, for the limits between which the trend is.
3. It does that four times: serially, with a pool of threads, with a pool of processes, and with
   Atoll's interpreters, one per core.  Each way runs in a fresh process of its own, so that its
   time and its peak memory are its own.
4. It checks that the four results are equal (exit status 1 when they are not), prints what each
   way took, and names the stations with the steepest trends.

The functions below know nothing of interpreters. numpy and pandas do not support interpreters with a GIL
of their own either: Atoll gives each its own private copy of their extension modules.

How the work is spread is in ``ways.py``; the part to copy into your own program is ``with_atoll()`` there.
"""

import os
import sys
import tempfile

import ways

# One thread for each worker, whichever way: the matrices are small, and the cores are taken.
for _library in ("OPENBLAS", "OMP", "MKL"):
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")

try:
    import numpy as np
    import pandas as pd
except ImportError as error:
    print(f"\nThe second act, with numpy and pandas, is left out: {error}.")
    print(f"`make run` installs what tools/requirements/examples.txt names. This is {sys.executable}.")
    sys.exit(0)

# (name, measurements, measurements that count, the warmest hour and its mean, trend a day, its lower and upper limit)
Station = tuple[str, int, int, int, float, float, float, float]


# ------------------------------------------------------------------------------------------------
# The work: what is done to each file.  Nothing here knows that it may run in another interpreter.
# ------------------------------------------------------------------------------------------------


def analyse(paths: list[str]) -> list[Station]:
    """Analyse the files of some stations."""
    stations = []
    for path in paths:
        table = pd.read_csv(path, parse_dates=["time"])
        columns = ["temperature", "humidity", "wind"]
        table[columns] = table["reading"].str.extract(r"(-?[\d.]+)C ([\d.]+)% ([\d.]+)m/s").astype(float)
        good = table[table["status"] == "ok"]
        by_hour = good.groupby(good["time"].dt.hour)["temperature"].mean()
        warmest = int(by_hour.idxmax())
        means = good.set_index("time")[columns].resample("10min").mean().interpolate()
        trend, low, high = fit(means)
        name = os.path.basename(path).removesuffix(".csv")
        stations.append(
            (name, len(table), len(good), warmest, float(by_hour[warmest]), trend, low, high),
        )
    return stations


def fit(means: pd.DataFrame, samples: int = 150) -> tuple[float, float, float]:
    """Fit temperatures by a daily cycle, humidity, wind and a trend; return the trend a day and its 95 % limits."""
    days = ((means.index - means.index[0]) / pd.Timedelta(days=1)).to_numpy()
    cycle = 2 * np.pi * days
    design = np.column_stack(
        [days, np.ones(len(days)), np.sin(cycle), np.cos(cycle), means["humidity"], means["wind"]]
    )
    measured = means["temperature"].to_numpy()
    random = np.random.default_rng(len(measured))

    def trend(weights: np.ndarray) -> float:
        weighted = design * weights[:, np.newaxis]
        return float(np.linalg.solve(design.T @ weighted, weighted.T @ measured)[0])

    trends = [trend(random.poisson(1.0, len(measured))) for _ in range(samples)]
    low, high = np.percentile(trends, [2.5, 97.5])
    return trend(np.ones(len(measured))), float(low), float(high)


def ready() -> str:
    """Answer when pandas is there: the first answer tells how long a way takes to start."""
    return str(pd.__version__)


# ------------------------------------------------------------------------------------------------
# The input
# ------------------------------------------------------------------------------------------------


def write_station(path: str, number: int, minutes: int = 30 * 24 * 60) -> int:
    """Write the invented measurements of a station; return their bytes."""
    random = np.random.default_rng(number)
    days = np.arange(minutes) / (24 * 60)
    cycle = 4 * np.sin(2 * np.pi * (days - 0.3))
    humidity = np.clip(70 - 4 * cycle + random.normal(0, 5, minutes), 5, 100)
    wind = random.gamma(2.0, 1.5, minutes)
    trend = random.normal(0, 0.1)
    temperature = 12 + cycle + trend * days - 0.3 * wind + random.normal(0, 1.5, minutes)
    faulty = random.random(minutes) < 0.02
    temperature[faulty] = -99.9
    times = np.datetime_as_string(
        np.datetime64("2026-03-01T00:00") + np.arange(minutes).astype("timedelta64[m]")
    )
    columns = [column.tolist() for column in (times, temperature, humidity, wind, faulty)]
    rows = [
        f"{time},{one:.2f}C {two:.1f}% {three:.1f}m/s,{'fault' if bad else 'ok'}\n"
        for time, one, two, three, bad in zip(*columns, strict=True)
    ]
    with open(path, "w") as file:
        file.write("time,reading,status\n")
        file.writelines(rows)
    return os.path.getsize(path)


def find_files(folder: str) -> list[ways.Task]:
    """Return a task for each file."""
    paths = [os.path.join(folder, name) for name in sorted(os.listdir(folder))]
    return [([path], os.path.getsize(path)) for path in paths]


# ------------------------------------------------------------------------------------------------
# The whole
# ------------------------------------------------------------------------------------------------


def main() -> int:
    """Run the ways, compare, print; return the exit status."""
    options = ways.parse_arguments(__doc__, "so many stations (default 48)")
    if options.way:
        return ways.run_child(ways.Job(find_files(options.data), analyse, ready, "data"), options)
    if ways.is_missing(options):
        return 1

    with tempfile.TemporaryDirectory() as folder:
        ways.heading("The input")
        files = options.files or 48
        sizes = []
        for number in range(files):
            sizes.append(write_station(os.path.join(folder, f"station-{number:02}.csv"), number))
            if sys.stdout.isatty():
                print(f"\r  writing file {number + 1} of {files}", end="", flush=True)
        print(
            "\r" * sys.stdout.isatty() + f"{files} CSV files, {sum(sizes) / 2**20:,.1f} MiB of measurements"
        )

        ways.heading("The work: parse, clean, resample, group; fit a model 151 times for each file")
        print(f"numpy {np.__version__}, pandas {pd.__version__}")
        comparison = ways.Comparison(options, ["--data", folder])

    found: list[Station] = comparison.print_equality()
    print(
        f"{sum(station[1] for station in found):,} measurements, {sum(station[2] for station in found):,} count"
    )

    comparison.print_costs()

    ways.heading("The five steepest trends")
    print(f"{'station':<14}{'degrees a day':>14}{'95 % of samples':>20}{'warmest hour':>15}")
    for name, _, _, hour, mean, trend, low, high in sorted(found, key=lambda station: -abs(station[5]))[:5]:
        limits = f"{low:+.3f} to {high:+.3f}"
        print(f"{name:<14}{trend:>+14.3f}{limits:>20}{f'{hour:02}:00, {mean:.1f}':>15}")
    return 0 if comparison.equal else 1


if __name__ == "__main__":
    ways.run(main)
