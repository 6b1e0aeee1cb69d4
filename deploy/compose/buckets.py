"""The buckets of the platform on a laptop, made unless they are there."""

import boto3

BUCKETS = ("mlops", "mlops-anchors", "mlops-mlflow")

s3 = boto3.client("s3")
there = {each["Name"] for each in s3.list_buckets()["Buckets"]}
for name in BUCKETS:
    if name not in there:
        s3.create_bucket(Bucket=name)
