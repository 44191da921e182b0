# shellcheck shell=bash
# Prepares the world of a page's sessions, as PID 1 of new mount, UTS, IPC, network, cgroup and PID namespaces, and
# holds it until standard input ends. What it shows is the same on every machine: the laptop of the user `learner`.
# Nothing outside changes: the root is an overlay whose upper half, like /home, is memory of this mount namespace.
# Arguments: an empty directory, the repository, the directory of its built programs; a directory on a disk for /var/tmp,
# where a page needs one.
set -eu
directory=$1 repository=$2 programs=$3 disk=${4-}

mount -t tmpfs -o mode=755 tmpfs "$directory"
cd "$directory"
mkdir upper work root
# Of the machine's own tree the programs and their settings are shown, and no more: a character device 0:0 in the
# upper half hides what the lower half has under its name. overlayfs.rst in the kernel's documentation
for entry in /* /.[!.]*; do
    case $entry in
    /bin | /etc | /lib | /lib64 | /sbin | /usr | /var) ;;
    *) if [ -e "$entry" ] || [ -L "$entry" ]; then mknod "upper$entry" c 0 0; fi ;;
    esac
done
mount -t overlay -o lowerdir=/,upperdir=upper,workdir=work overlay root
cd root
# A file system of its own, below /usr say, is not part of the lower half.
for below in usr etc var; do
    if mountpoint -q "/$below"; then mount --bind "/$below" "$below"; fi
done
mkdir -p boot dev home lib64 media mnt opt proc root run srv sys tmp

mount -t proc proc proc
# A new network namespace begins with the machine's own value, and on a machine with containers that is 1.
echo 0 > proc/sys/net/ipv4/ip_forward
mount -t sysfs sysfs sys
# The unified hierarchy can be mounted beside version 1 too, so that a machine of either kind shows this one.
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs dev
for device in null zero full random urandom tty fuse; do
    if [ -c "/dev/$device" ]; then cp -a "/dev/$device" dev/; fi
done
# As udev has it: any user may open a FUSE file system.
chmod -f 666 dev/fuse || true
mkdir dev/pts dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ln -s fd/0 dev/stdin
ln -s fd/1 dev/stdout
ln -s fd/2 dev/stderr
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts dev/pts
mount -t tmpfs -o mode=1777 tmpfs dev/shm
mount -t tmpfs -o mode=1777 tmpfs tmp
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=755 tmpfs home

# The root is an overlay, and on an overlay no overlay can have its upper half: so /var/tmp is never a part of it.
if [ -n "$disk" ]; then
    chmod 1777 "$disk"
    mount --bind "$disk" var/tmp
else
    mount -t tmpfs -o mode=1777 tmpfs var/tmp
fi
# Which pasta a machine has, if any, must not show in a page.
rm -f usr/bin/pasta

cat > etc/passwd <<'END'
root:x:0:0:root:/root:/bin/bash
learner:x:1000:1000::/home/learner:/bin/bash
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
END
cat > etc/group <<'END'
root:x:0:
tty:x:5:
learner:x:1000:
nogroup:x:65534:
END
printf 'learner:100000:65536\n' > etc/subuid
printf 'learner:100000:65536\n' > etc/subgid
printf '127.0.0.1 localhost\n127.0.1.1 laptop\n' > etc/hosts
printf 'laptop\n' > etc/hostname
# Debian's bash reads this before a file that --rcfile names, and it sets a prompt.
: > etc/bash.bashrc
# The shell of a page says by its prompt that a command has ended, and with which status.
printf '%s\n' "PS1=\$'\\036\$?\\036'" "PS2=''" 'unset HISTFILE' 'set +H' > run/session.bashrc

hull=home/learner/hull
mkdir -p "$hull/target/debug/examples"
tar -C "$repository" --exclude=./target --exclude=./.git -c . | tar -C "$hull" -x --no-same-owner
find "$programs" -maxdepth 1 -type f -perm -u+x ! -name book-check -exec cp -t "$hull/target/debug" {} +
# Cargo keeps each under a second name too, which ends in a hash.
if [ -d "$programs/examples" ]; then
    find "$programs/examples" -maxdepth 1 -type f -perm -u+x ! -name '*-????????????????' \
        -exec cp -t "$hull/target/debug/examples" {} +
fi
printf '%s\n' 'Signature: 8a477f597d28d172789f06886806bc55' \
    '# This file is a cache directory tag created by cargo.' > "$hull/target/CACHEDIR.TAG"
printf '%s\n' "PS1='\\u@\\h:\\w\\\$ '" > home/learner/.bashrc
chown -R 1000:1000 home/learner

# In place of cargo: runs what is built already, so that its own messages stay out of a page.
mkdir -p usr/local/bin
cat > usr/local/bin/cargo <<'END'
#!/bin/bash
refuse() {
    echo "cargo: a page of the book can only \`cargo run -p PACKAGE [--bin PROGRAM] [-- ARGUMENTS]\`: $1" >&2
    exit 101
}
program='' command=''
while [ $# -gt 0 ]; do
    case $1 in
    run) command=run ;;
    -q | --quiet) ;;
    -p | --package) program=${program:-$2}; shift ;;
    --bin) program=$2; shift ;;
    --) shift; break ;;
    *) refuse "$1" ;;
    esac
    shift
done
[ "$command" = run ] || refuse "no run"
path=target/debug/$program
[ -x "$path" ] || path=/home/learner/hull/$path
[ -x "$path" ] || refuse "no program $program"
exec "$path" "$@"
END
chmod 755 usr/local/bin/cargo

hostname laptop
ip link set lo up
pivot_root . .
umount -l .
cd /
# As systemd has it on a laptop: what is mounted in one namespace appears in the others.
mount --make-rshared /

# What holds the world from here on is a process with a short command line, since `ps` shows it.
# Process IDs continue from where the page wants them, so that they have four digits as on a machine that has run for
# a while. The number belongs to the PID namespace of the writer, so it is written here.
cat > run/init <<'END'
#!/bin/bash
echo ready
while read -r pid; do
    if [ -w /proc/sys/kernel/ns_last_pid ]; then echo "$pid" > /proc/sys/kernel/ns_last_pid; fi
    echo set
done
END
chmod 755 run/init
exec /run/init
