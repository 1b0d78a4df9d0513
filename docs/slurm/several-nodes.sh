#!/bin/bash
# sbatch several-nodes.sh RUN: trains a run folder on all graphics cards of several computers, which
# all see the folder under this name.
#SBATCH --job-name=sparsesegnet
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1             # torchrun starts one process per card
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --mem=128G
#SBATCH --time=04:00:00
#SBATCH --signal=TERM@30                # the engine is asked to end 30 s before the limit
#SBATCH --requeue
#SBATCH --open-mode=append

run=${1:?usage: sbatch several-nodes.sh RUN}
# Priors and shallow model are rank 0's and compute on the cores, too.
export OMP_NUM_THREADS=$((SLURM_CPUS_PER_TASK / SLURM_GPUS_ON_NODE))

first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
port=$((20000 + SLURM_JOB_ID % 20000))  # jobs of others may run on the same computer

srun torchrun --nnodes="$SLURM_NNODES" --nproc-per-node="$SLURM_GPUS_ON_NODE" \
    --rdzv-id="$SLURM_JOB_ID" --rdzv-backend=c10d --rdzv-endpoint="$first:$port" \
    -m SparseSegNetLib.engine.worker "$run" \
    < /dev/null >> "$run/events.jsonl" 2>> "$run/log.txt"
code=$?

# Interrupted, and not failed: it goes on from its checkpoint when there is room again.
if [ "$code" -ne 0 ] && tail -n 1 "$run/events.jsonl" | grep -q '"event": "interrupted"'; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
