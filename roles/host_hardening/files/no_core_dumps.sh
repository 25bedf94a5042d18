# Takes the right to leave core dumps from the processes of all services.
cat $(find /sys/fs/cgroup -path '*/system.slice/*' -name cgroup.procs) | while read -r process; do
    # Unless it has ended meanwhile.
    prlimit --core=0:0 --pid "$process" 2> /dev/null || true
done
