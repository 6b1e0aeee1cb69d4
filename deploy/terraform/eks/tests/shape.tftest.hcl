# Without an account and without a network: AWS is mocked, so what is proven is the shape of what would be asked for.
mock_provider "aws" {
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{\"Version\":\"2012-10-17\",\"Statement\":[]}" }
  }
  mock_resource "aws_eks_cluster" {
    defaults = {
      arn        = "arn:aws:eks:eu-central-1:000000000000:cluster/mlops"
      identity   = [{ oidc = [{ issuer = "https://oidc.example.com/id/0" }] }]
      vpc_config = { cluster_security_group_id = "sg-0" }
    }
  }
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::000000000000:role/mocked" }
  }
  mock_resource "aws_iam_openid_connect_provider" {
    defaults = { arn = "arn:aws:iam::000000000000:oidc-provider/oidc.example.com" }
  }
  mock_resource "aws_kms_key" {
    defaults = { arn = "arn:aws:kms:eu-central-1:000000000000:key/0" }
  }
  mock_resource "aws_s3_bucket" {
    defaults = { arn = "arn:aws:s3:::mocked", bucket = "mocked" }
  }
  mock_resource "aws_launch_template" {
    defaults = { id = "lt-00000000000000000", latest_version = 1 }
  }
}

variables {
  region      = "eu-central-1"
  environment = "prod"
  vpc_id      = "vpc-0"
  subnet_ids  = ["subnet-0", "subnet-1"]
}

run "every_pool_is_a_node_group" {
  command = plan

  assert {
    condition     = toset(keys(aws_eks_node_group.pool)) == toset([for pool in local.model.pools : pool.name])
    error_message = "A pool of the cluster's model has no node group."
  }
  assert {
    condition     = aws_eks_node_group.pool["gpu-spot"].capacity_type == "SPOT" && aws_eks_node_group.pool["gpu"].capacity_type == "ON_DEMAND"
    error_message = "Spot capacity is not where the model says."
  }
  assert {
    condition     = alltrue([for name, pool in local.pools : pool.gpus == (aws_eks_node_group.pool[name].ami_type == "AL2023_x86_64_NVIDIA")])
    error_message = "A node with GPUs has an image without drivers, or the other way round."
  }
  assert {
    condition     = alltrue([for group in aws_eks_node_group.pool : !anytrue([for label in keys(group.labels) : strcontains(label, "eks.amazonaws.com/")])])
    error_message = "EKS refuses labels of its own domain."
  }
  assert {
    condition     = alltrue([for name, pool in local.pools : pool.gpus ? length([for taint in aws_eks_node_group.pool[name].taint : taint if taint.key == "nvidia.com/gpu"]) == 1 : length(aws_eks_node_group.pool[name].taint) == 0])
    error_message = "A node with GPUs takes anything, or one without takes nothing."
  }
}

run "nothing_is_open_or_in_the_clear" {
  command = plan

  assert {
    condition     = aws_db_instance.this.storage_encrypted && !aws_db_instance.this.publicly_accessible && aws_db_instance.this.deletion_protection
    error_message = "The database is open, in the clear, or easily deleted."
  }
  assert {
    condition     = !aws_eks_cluster.this.vpc_config[0].endpoint_public_access
    error_message = "Kubernetes's API is open although nobody asked for it."
  }
  assert {
    condition     = alltrue([for block in aws_s3_bucket_public_access_block.this : block.block_public_acls && block.block_public_policy && block.ignore_public_acls && block.restrict_public_buckets])
    error_message = "A bucket may be made public."
  }
  assert {
    condition     = alltrue([for versions in aws_s3_bucket_versioning.this : versions.versioning_configuration[0].status == "Enabled"])
    error_message = "A bucket keeps no versions."
  }
  assert {
    condition     = alltrue([for template in aws_launch_template.pool : template.metadata_options[0].http_tokens == "required" && template.metadata_options[0].http_put_response_hop_limit == 1])
    error_message = "Pods reach the identity of their node."
  }
  assert {
    condition     = aws_s3_bucket.this["anchors"].object_lock_enabled && aws_s3_bucket_object_lock_configuration.anchors.rule[0].default_retention[0].mode == "COMPLIANCE"
    error_message = "The ledger's anchors can be deleted."
  }
}

run "nobody_may_do_more_than_is_needed" {
  command = plan

  assert {
    condition     = alltrue([for role in local.roles : !contains(flatten(values(role.buckets)), "s3:*")])
    error_message = "A role may do everything with a bucket."
  }
  assert {
    condition     = alltrue([for role in local.roles : !contains(lookup(role.buckets, "anchors", []), "s3:DeleteObject")])
    error_message = "A role may delete anchors."
  }
  assert {
    condition     = toset(flatten(values(local.roles.read.buckets))) == toset(["s3:GetObject"])
    error_message = "The exporter may write."
  }
}

run "an_open_api_is_refused" {
  command = plan
  variables { api_from = ["0.0.0.0/0"] }
  expect_failures = [var.api_from]
}

run "one_zone_is_refused" {
  command = plan
  variables { subnet_ids = ["subnet-0"] }
  expect_failures = [var.subnet_ids]
}

run "a_stage_that_there_is_not_is_refused" {
  command = plan
  variables { environment = "production" }
  expect_failures = [var.environment]
}
