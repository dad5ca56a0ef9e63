#!/bin/sh
# Managed by Terraform. What this server dials for members of k3s's etcd, by its own view of the others.
#   translation up      puts address and rules into place, the rules in one transaction: connections that there are go on
#   translation check   the same, if somebody took them away
set -eu
PATH=/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin
here=/etc/etcd-k3s/@CLUSTER@ table=@TABLE@ live=/run/etcd-k3s/@CLUSTER@
address=$(cat "$here/address")
# Another machine's own address must not be hidden: what is not on the loopback interface was not put there by this.
has_address() { [ -z "$address" ] || [ -n "$(ip -4 -o address show to "$address/32")" ]; }
in_force() { has_address && nft -s list table ip "$table" 2>/dev/null | cmp -s - "$live"; }
up() {
  # The check may put it there at the same moment.
  has_address || ip address add "$address/32" dev lo || has_address
  nft -f "$here/rules.nft"
  mkdir -p /run/etcd-k3s
  nft -s list table ip "$table" >"$live.new"
  mv -fT "$live.new" "$live"
}
case $1 in
up) up ;;
check) in_force || { echo "the rules of $table were gone or changed, and are put back"; up; } ;;
in-force) in_force ;;
esac
