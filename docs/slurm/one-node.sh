#!/bin/bash
# sbatch one-node.sh RUN: trains a run folder on all graphics cards of one computer.
#SBATCH --job-name=sparsesegnet
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1             # torchrun starts one process per card
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --mem=128G
#SBATCH --time=04:00:00
#SBATCH --signal=TERM@30                # the engine is asked to end 30 s before the limit
#SBATCH --requeue
#SBATCH --open-mode=append

run=${1:?usage: sbatch one-node.sh RUN}
# Priors and shallow model are rank 0's and compute on the cores, too.
export OMP_NUM_THREADS=$((SLURM_CPUS_PER_TASK / SLURM_GPUS_ON_NODE))

srun torchrun --standalone --nproc-per-node="$SLURM_GPUS_ON_NODE" \
    -m SparseSegNetLib.engine.worker "$run" \
    < /dev/null >> "$run/events.jsonl" 2>> "$run/log.txt"
code=$?

# Interrupted, and not failed: it goes on from its checkpoint when there is room again.
if [ "$code" -ne 0 ] && tail -n 1 "$run/events.jsonl" | grep -q '"event": "interrupted"'; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
