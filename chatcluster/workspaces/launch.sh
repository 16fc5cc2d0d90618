#!/bin/sh
# Takes its place in the control groups, makes ready the disk, and becomes the sandbox. Runs in a mount namespace of its
# own where there is an image to be mounted, so that the mount ends with the sandbox.
#
# launch.sh DIRECTORY USER IMAGE [GROUP ...] -- COMMAND ...
#
# DIRECTORY is the workspace's. USER is the ID that the sandbox has outside; empty: the one that this has. IMAGE is the
# file of its disk; empty: a plain directory. COMMAND finds on descriptor 9 what else bubblewrap is to do, and on 8 the
# filter of system calls, if there is one.
set -eu
directory=$1 user=$2 image=$3
shift 3
while [ "$1" != -- ]; do
    echo $$ >"$1"
    shift
done
shift

disk=$directory/disk
[ -z "$image" ] || mount -t ext4 -o loop,nosuid,nodev,discard "$image" "$disk"
for place in home work; do
    [ -d "$disk/$place" ] || mkdir -m 700 "$disk/$place"
    [ -z "$user" ] || chown -h "$user:$user" "$disk/$place"
    chmod u+rwx "$disk/$place" # whoever closed it there could not begin again
done

# What a repository has programs run by is not to be changed from within. Links are not followed: they were made there.
repository=$disk/work/.git
: >"$directory/arguments"
if [ -d "$repository" ] && [ ! -L "$repository" ]; then
    for name in hooks config; do
        if [ -e "$repository/$name" ] && [ ! -L "$repository/$name" ]; then
            printf '%s\0' --ro-bind "$repository/$name" "/workspace/.git/$name" >>"$directory/arguments"
        fi
    done
fi
exec 9<"$directory/arguments"
[ ! -e "$directory/seccomp" ] || exec 8<"$directory/seccomp"
[ -z "$user" ] || exec setpriv --reuid "$user" --regid "$user" --clear-groups -- "$@"
exec "$@"
