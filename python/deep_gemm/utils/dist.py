"""Helpers of programs that run on several GPUs, over torch.distributed."""

import os


def init_dist(local_rank, num_local_ranks):
    """(rank, number of ranks, group) of one process of a node; the address comes from MASTER_ADDR, MASTER_PORT, WORLD_SIZE, RANK."""
    import torch
    import torch.distributed as dist
    nodes, node = int(os.getenv("WORLD_SIZE", "1")), int(os.getenv("RANK", "0"))
    address = f"tcp://{os.getenv('MASTER_ADDR', '127.0.0.1')}:{os.getenv('MASTER_PORT', '8361')}"
    dist.init_process_group("nccl", init_method=address, world_size=nodes * num_local_ranks, rank=node * num_local_ranks + local_rank)
    torch.set_default_device("cuda")
    torch.cuda.set_device(local_rank)
    return dist.get_rank(), dist.get_world_size(), dist.new_group(list(range(nodes * num_local_ranks)))


def uneven_all_gather(tensor, dim=0, group=None):
    """All ranks' tensors joined along `dim`, along which they may differ in size."""
    import torch
    import torch.distributed as dist
    n = dist.get_world_size(group)
    sizes = [torch.zeros((), dtype=torch.int64, device=tensor.device) for _ in range(n)]
    dist.all_gather(sizes, torch.tensor(tensor.shape[dim], device=tensor.device), group=group)
    widest = max(int(s) for s in sizes)
    moved = tensor.movedim(dim, 0)
    padded = moved.new_zeros([widest, *moved.shape[1:]])
    padded[:moved.shape[0]] = moved
    parts = [torch.empty_like(padded) for _ in range(n)]
    dist.all_gather(parts, padded, group=group)
    return torch.cat([p[:int(s)] for p, s in zip(parts, sizes)]).movedim(0, dim)


def dist_print(text="", once_in_node=False):
    import torch
    import torch.distributed as dist
    if not once_in_node or torch.cuda.current_device() == 0:
        print(f"[rank {dist.get_rank()}] {text}" if text else "", flush=True)
    dist.barrier()
