#!/bin/sh
# SeaweedFS with one identity, from the environment: its configuration is a file, and no password belongs into one here.
set -eu
umask 077
printf '{"identities":[{"name":"mlops","credentials":[{"accessKey":"%s","secretKey":"%s"}],"actions":["Admin","Read","Write","List","Tagging"]}]}' \
    "$S3_ACCESS_KEY" "$S3_SECRET_KEY" > /tmp/s3.json
exec weed server -dir=/data -ip=127.0.0.1 -ip.bind=0.0.0.0 -master.volumeSizeLimitMB=1024 -volume.max=0 \
    -filer -s3 -s3.port=8333 -s3.config=/tmp/s3.json
