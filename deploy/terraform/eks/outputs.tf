output "cluster" {
  description = "The name for `aws eks update-kubeconfig`."
  value       = aws_eks_cluster.this.name
}

output "buckets" {
  description = "For MLOPS_HOME, MLOPS_LEDGER_ANCHORS and MLflow's artifacts."
  value       = { for name, bucket in aws_s3_bucket.this : name => bucket.bucket }
}

output "database" {
  description = "The address of PostgreSQL; its first password is in Secrets Manager."
  value       = aws_db_instance.this.address
}

output "roles" {
  description = "For the annotations of deploy/helm/mlops-platform/values-eks.yaml."
  value       = { for name, role in aws_iam_role.platform : name => role.arn }
}

output "registries" {
  description = "Where the images of deploy/docker go."
  value       = { for name, registry in aws_ecr_repository.this : name => registry.repository_url }
}

output "pools" {
  description = "What each node group carries."
  value       = { for name, pool in local.pools : name => { labels = pool.labels, taints = pool.taints, spot = pool.spot } }
}
