#!/bin/bash
#SBATCH --job-name=evenhand
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-node=1
#SBATCH --time=12:00:00
#SBATCH --signal=B:TERM@180
#
# A study in a Slurm allocation: starts Ray on its nodes, runs the study, stops Ray.
#
#   sbatch [--nodes=4 ...] clusters/slurm.sh --method erm rwg --dataset colored_digits --trials 64 \
#       --storage $HOME/records --results $HOME/results
#
# Run it in the project's folder, which all nodes must see at the same path, after `make install`.
# Three minutes before the allocation ends, the study stops and exports its results so far. The same
# sbatch with --resume continues it.
set -euo pipefail

project=${SLURM_SUBMIT_DIR:-$PWD}
cd "$project"
export PATH=$project/.venv/bin:$PATH
job=${SLURM_JOB_ID:?not inside a Slurm allocation: use sbatch}
cpus=${SLURM_CPUS_PER_TASK:-1}
gpus=${SLURM_GPUS_ON_NODE:-0}
port=$((20000 + job % 10000))  # jobs on the same node have different ports

# Only users who can read this file can use the cluster; others on the nodes cannot.
private=$(mktemp -d "$project/.ray-$job.XXXXXX")
chmod 700 "$private"
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$private/token RAY_USAGE_STATS_ENABLED=0
export RAY_worker_niceness=0
(umask 077 && head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n' > "$RAY_AUTH_TOKEN_PATH")
export RAY_TMPDIR=/tmp/ray-$job

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
on() {  # on NODE COMMAND...: becomes a step there, so call it in a subshell or in the background
    local node=$1
    shift
    # Since Slurm 22.05 a step does not inherit --cpus-per-task.
    exec srun --nodes=1 --ntasks=1 --cpus-per-task="$cpus" --nodelist="$node" --overlap "$@"
}
head=${nodes[0]}
# Its first IPv4 address: `hostname --ip-address` may say 127.0.1.1, which other nodes cannot reach.
address=$(on "$head" hostname -I | tr ' ' '\n' | grep -m 1 '^[0-9.]\+$') ||
    { echo "$head has no IPv4 address: hostname -I printed none" >&2; exit 1; }

steps=()
finish() {
    trap - EXIT TERM INT
    for step in "${steps[@]}"; do kill -TERM "$step" 2>/dev/null || true; done
    wait
    rm -rf "$private"
}
trap finish EXIT

on "$head" ray start --head --block --node-ip-address="$address" --port="$port" \
    --num-cpus="$cpus" --num-gpus="$gpus" --include-dashboard=false --temp-dir="$RAY_TMPDIR" \
    > "$private/head.log" 2>&1 &
steps+=($!)
for _ in $(seq 120); do
    (exec 3<> "/dev/tcp/$address/$port") 2>/dev/null && break
    kill -0 "${steps[0]}" 2>/dev/null || { cat "$private/head.log" >&2; exit 1; }
    sleep 0.5
done
for node in "${nodes[@]:1}"; do
    on "$node" ray start --block --address="$address:$port" --num-cpus="$cpus" \
        --num-gpus="$gpus" > "$private/$node.log" 2>&1 &
    steps+=($!)
done

# A study uses the nodes that have joined; wait for all, but not forever.
if ! python - "${#nodes[@]}" "$address:$port" <<'PYTHON'
import sys
import time

import ray

wanted, address = int(sys.argv[1]), sys.argv[2]
ray.init(address=address, logging_level="ERROR", log_to_driver=False)
for _ in range(240):
    alive = sum(node["Alive"] for node in ray.nodes())
    if alive >= wanted:
        sys.exit(0)
    time.sleep(0.5)
sys.exit(f"only {alive} of {wanted} nodes joined within two minutes")
PYTHON
then
    tail -n 5 "$private"/*.log >&2
    exit 1
fi

python tune.py "$@" --address "$address:$port" &
study=$!
trap 'kill -TERM "$study" 2>/dev/null' TERM INT  # the study stops as after Ctrl-C
code=0
wait "$study" || code=$?
while kill -0 "$study" 2>/dev/null; do  # a signal ends wait, not the study
    code=0
    wait "$study" || code=$?
done
exit "$code"
