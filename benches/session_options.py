"""Which of ONNX Runtime's options suit a session on processors? Milliseconds of processor a picture, and pictures a second.

    pip install onnxruntime==1.31.1 numpy
    python3 benches/session_options.py models/efficientnet-lite0.onnx [SECONDS]

The library is the one that the service uses. Settings take turns in short runs, so that what else the machine does
meets all of them; the median run of each counts. Processor time is what others on the machine disturb least; spinning
threads show in it.
"""

import statistics
import sys
import threading
import time

import numpy as np
import onnxruntime as ort

LEVELS = ort.GraphOptimizationLevel
SETTINGS = {
    "as the service: all optimisations, no spinning": {},
    "spinning": {"spinning": "1"},
    "extended optimisations (no layout change)": {"level": LEVELS.ORT_ENABLE_EXTENDED},
    "basic optimisations": {"level": LEVELS.ORT_ENABLE_BASIC},
    "no memory pattern": {"pattern": False},
    "no arena": {"arena": False},
    "denormals as zero": {"denormals": "1"},
}


def session(model, threads=1, level=LEVELS.ORT_ENABLE_ALL, pattern=True, arena=True, spinning="0", denormals="0"):
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.graph_optimization_level = level
    options.enable_mem_pattern, options.enable_cpu_mem_arena = pattern, arena
    options.add_session_config_entry("session.intra_op.allow_spinning", spinning)
    options.add_session_config_entry("session.set_denormal_as_zero", denormals)
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def measure(sessions, seconds, batch=1):
    """Milliseconds of processor a picture, and pictures a second, of all sessions together, each on a thread of its own."""
    picture = np.random.default_rng(1).integers(0, 256, (batch, 224, 224, 3), dtype=np.uint8)
    counts = [0] * len(sessions)

    def work(place):
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            sessions[place].run(None, {"image": picture})
            counts[place] += batch

    threads = [threading.Thread(target=work, args=(place,)) for place in range(len(sessions))]
    begun, spent = time.perf_counter(), time.process_time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    spent, took = time.process_time() - spent, time.perf_counter() - begun
    return 1e3 * spent / sum(counts), sum(counts) / took


def main():
    model, seconds = sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 30.0
    alone = {name: [session(model, **setting)] for name, setting in SETTINGS.items()}
    shared = {
        "two sessions of one thread": ([session(model), session(model)], 1),
        "two sessions of one thread, spinning": ([session(model, spinning="1") for _ in range(2)], 1),
        "one session of two threads": ([session(model, threads=2)], 1),
        "one session of two threads, spinning": ([session(model, threads=2, spinning="1")], 1),
        "two sessions of two threads": ([session(model, threads=2) for _ in range(2)], 1),
        "two sessions of one thread, batches of 4": ([session(model), session(model)], 4),
        "two sessions of one thread, batches of 8": ([session(model), session(model)], 8),
    }
    runs = 5
    each = seconds / runs / (len(alone) + len(shared))
    rates = {name: [] for name in [*alone, *shared]}
    for _ in range(runs):
        for name, sessions in alone.items():
            rates[name].append(measure(sessions, each))
        for name, (sessions, batch) in shared.items():
            rates[name].append(measure(sessions, each, batch))
    for name, runs in rates.items():
        cost_ms, rate = (statistics.median(values) for values in zip(*runs))
        print(f"{name:50} {cost_ms:6.2f} ms of processor  {rate:6.1f}/s")


main()
