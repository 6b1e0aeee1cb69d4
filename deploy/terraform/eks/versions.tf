# An installation on EKS: the cluster with its node groups, PostgreSQL, buckets, registries, and who may do what.
# The network is given: it is older than this, and shared. State belongs into a bucket with versions and a lock.
terraform {
  required_version = ">= 1.9"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.80, < 6.0"
    }
  }
}

provider "aws" {
  region = var.region

  default_tags {
    tags = { "mlops:environment" = var.environment, "mlops:managed-by" = "terraform" }
  }
}
