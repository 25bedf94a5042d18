# Succeeds if the table that is in force is the one that file $1 makes, which an empty network namespace shows.
set -eu
table() { nft --stateless list table inet litellm; }
there=$(table)
[ "$there" = "$(unshare --net bash -c 'nft --file "$1" && nft --stateless list table inet litellm' bash "$1")" ]
