"""Times of functions and of the kernels they launch."""

import os


def bench(fn, num_warmups=5, num_tests=10, high_precision=False):
    """Seconds a call takes on the device, on average."""
    import torch
    flush = torch.empty(int(256e6) // 4, dtype=torch.int32, device="cuda")
    for _ in range(num_warmups):
        fn()
    if high_precision:  # fills the queue, so that launches are not waited for
        x = torch.randn((8192, 8192), device="cuda")
        x @ x
    flush.zero_()
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    for _ in range(num_tests):
        fn()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / num_tests / 1e3


def bench_kineto(fn, kernel_names, num_tests=30, suppress_kineto_output=False, trace_path=None, flush_l2=True, with_multiple_kernels=False,
                 barrier=None):
    """Seconds of the kernels whose names contain kernel_names (a string, or several), on average: from torch's profiler."""
    import torch
    names = (kernel_names,) if isinstance(kernel_names, str) else tuple(kernel_names)
    if int(os.environ.get("DG_USE_NVIDIA_TOOLS", "0")):  # a profiler is at work already
        return 1 if isinstance(kernel_names, str) else (1,) * len(names)
    flush = torch.empty(int(8e9 if flush_l2 else 4) // 4, dtype=torch.int32, device="cuda") if flush_l2 else None
    fn()
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA], acc_events=True) as profile:
        for _ in range(num_tests):
            if flush_l2:
                flush.zero_()
            if barrier is not None:
                barrier()
            fn()
        torch.cuda.synchronize()
    if trace_path is not None:
        profile.export_chrome_trace(trace_path)
    seconds = []
    for name in names:
        found = [e for e in profile.key_averages() if name in e.key]
        assert with_multiple_kernels or len(found) <= 1, f"several kernels are called {name}: {[e.key for e in found]}"
        calls = sum(e.count for e in found)
        total = sum(getattr(e, "self_device_time_total", None) or getattr(e, "self_cuda_time_total", 0) for e in found)
        seconds.append(total / calls / 1e6 if calls else 0)
    return seconds[0] if isinstance(kernel_names, str) else tuple(seconds)
