#!/bin/sh
# Does the kernel keep the limits of a tree, and does Horus say what became of those who wanted more?
#
#   limits.sh        as root, in a machine of its own with systemd and with `horus` in the PATH: it installs the service
#
# Needs a kernel whose cgroup v2 has the controllers memory, pids and cpu, which a box does not have as long as the
# machine around it binds them elsewhere: then it shows that a limit is called "NOT enforced", and says what it skipped.
# The last line is "limits: passed" or "limits: skipped: WHY"; anything else, or another exit code than 0, is a failure.
set -eu

group=/sys/fs/cgroup/system.slice/horus-services.scope
config=/etc/horus/watchdog.toml

fail() {
  echo "limits: failed: $*" >&2
  for name in calm hog forks fat; do horus status $name || true; done >&2
  horus events >&2 || true
  exit 1
}

wait_for() { # WHAT COMMAND
  tries=0
  until sh -c "$2" >/dev/null 2>&1; do
    tries=$((tries + 1))
    [ $tries -lt 300 ] || fail "never: $1 ($2)"
    sleep 0.2
  done
}

equal() { # WHAT FOUND EXPECTED
  [ "$2" = "$3" ] || fail "$1: found '$2' instead of '$3'"
}

says() { # WORDS COMMAND...
  words=$1
  shift
  "$@" 2>&1 | tr -s ' \n' '  ' | grep -qF -- "$words" || fail "'$*' does not say '$words': $("$@" 2>&1)"
}

pid_of() { pgrep -x -f "/bin/sleep $1"; }

write_config() { # LIMITS-OF-CALM LIMIT-OF-FAT
  mkdir -p /etc/horus
  cat >$config.new <<TOML
version = 1
[service.calm]
command = ["/bin/sleep", "1000034"]
$1
[service.hog]
command = ["/bin/sh", "-c", "/bin/sleep 1000031 & exec tail /dev/zero"]
limits.tree.memory = "64MiB"
restart = { on = "never" }
autostart = false
[service.forks]
command = ["/bin/sh", "-c", "while :; do /bin/sleep 1000032 & done"]
limits.tree.tasks = 10
restart = { on = "never" }
autostart = false
[service.fat]
command = ["/bin/sh", "-c", "x=\$(head -c 60000000 /dev/zero | tr '\\\\0' x); echo full; while :; do /bin/sleep 1; done"]
limits.tree.memory = "$2"
autostart = false
TOML
  mv $config.new $config
}

write_config 'limits.tree = { memory = "128MiB", tasks = 50, cpu = "50%" }' 1GiB
horus install >/dev/null
wait_for "calm runs" "pgrep -x -f '/bin/sleep 1000034'"
calm=$(pid_of 1000034)
wait_for "the status knows" "horus status calm | grep -q '^ *tree cpu' && ! horus status calm | grep -q 'not known yet'"

for controller in memory pids cpu; do
  if ! grep -qw $controller $group/cgroup.subtree_control; then
    says "128 MiB, NOT enforced: no memory controller in" horus status calm
    says "limits.tree.memory (128 MiB) is not enforced" horus events
    equal "it runs all the same" "$(pid_of 1000034)" "$calm"
    echo "limits: skipped: there is no $controller controller in $group"
    exit 0
  fi
done

# In force before anything else of it happens, and said to be.
equal memory.max "$(cat $group/slot-calm/memory.max)" $((128 * 1048576))
equal memory.oom.group "$(cat $group/slot-calm/memory.oom.group)" 1
equal pids.max "$(cat $group/slot-calm/pids.max)" 50
equal cpu.max "$(cat $group/slot-calm/cpu.max)" "50000 100000"
if horus status calm | grep -q "NOT enforced"; then fail "the status calls a limit not enforced"; fi

# Changed and lifted in place.
write_config 'limits.tree = { memory = "256MiB", tasks = 60 }' 1GiB
horus reload >/dev/null # Whoever reads the file first: Horus watches it.
wait_for "the plan" "horus events | tr -s ' \n' '  ' | grep -qF 'calm: takes effect at once (limits.tree)'"
wait_for "the new limit" "grep -qx $((256 * 1048576)) $group/slot-calm/memory.max"
equal cpu.max "$(cat $group/slot-calm/cpu.max)" "max 100000"
equal pids.max "$(cat $group/slot-calm/pids.max)" 60
equal "the same process" "$(pid_of 1000034)" "$calm"

# Whoever dies: they stay, and the next ones know of them.
kill -KILL "$(pgrep -f '[h]orus keep')" "$(systemctl show horus --property=MainPID --value)"
wait_for "another Horus" "horus status calm | grep -q 'tree memory *256 MiB$'"
equal "the same process" "$(pid_of 1000034)" "$calm"
equal memory.max "$(cat $group/slot-calm/memory.max)" $((256 * 1048576))

# Memory: the whole tree goes, by its own limit, and that is what is told.
horus start hog >/dev/null 2>&1 || true
wait_for "the hog's end" "horus events --service hog | grep -q 'killed by the kernel for want of memory (limit 64 MiB)'"
wait_for "the hog's helper's end" "! pgrep -x -f '/bin/sleep 1000031'"
says "killed by the kernel for want of memory (limit 64 MiB)" horus status hog

# A SIGKILL by somebody else is not mistaken for it. (How an adopted program ended not every kernel tells: a fresh one.)
for _ in 1 2; do
  calm=$(pid_of 1000034)
  kill -KILL "$calm"
  wait_for "calm again" "pgrep -x -f '/bin/sleep 1000034' | grep -vx $calm"
  wait_for "Horus knows" "horus status calm | grep -q 'pid' && ! horus status calm | grep -q 'pid $calm'"
done
says "ended with SIGKILL" horus events --service calm

# Tasks: the eleventh is refused, and that is told.
horus start forks >/dev/null 2>&1 || true
wait_for "word of what was refused" "horus events | tr -s ' \n' '  ' | grep -q 'forks: its tree may have 10 tasks'"
wait_for "its end" "! pgrep -x -f '/bin/sleep 1000032'"

# A limit below what is in use kills nobody by a reload.
horus start fat >/dev/null 2>&1 || true
wait_for "it is full" "horus logs fat | grep -q full"
fat=$(horus status fat --json | tr ',' '\n' | grep '"pid"' | tr -dc 0-9)
write_config 'limits.tree = { memory = "256MiB", tasks = 60 }' 16MiB
horus reload >/dev/null
wait_for "the refusal" "horus status fat | grep -q '16 MiB, NOT enforced'"
says "are in use and would be killed at once; it holds from the next start on" horus status fat
kill -0 "$fat" || fail "a reload killed it"
equal memory.max "$(cat $group/slot-fat/memory.max)" $((1024 * 1048576))

echo "limits: passed"
