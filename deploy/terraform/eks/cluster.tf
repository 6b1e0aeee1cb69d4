locals {
  name = "mlops-${var.environment}"
  # What the compute profiles expect of nodes is written once, and tested there against every profile.
  model  = yamldecode(file("${path.module}/../../cluster-model/eks.yaml"))
  wanted = { for pool in local.model.pools : pool.name => pool if contains(keys(var.pools), pool.name) }
  pools = {
    for name, pool in local.wanted : name => {
      spot = lookup(pool.labels, "eks.amazonaws.com/capacityType", "ON_DEMAND") == "SPOT"
      # Labels of AWS's own domain are set by EKS, which refuses them from others.
      labels = merge({ for key, value in pool.labels : key => value if !strcontains(key, "eks.amazonaws.com/") }, var.pools[name].labels)
      taints = [for taint in lookup(pool, "taints", []) : merge(taint, { effect = local.effects[taint.effect] })]
      gpus   = anytrue([for resource in keys(pool.allocatable) : startswith(resource, "nvidia.com/")])
    }
  }
  effects = { NoSchedule = "NO_SCHEDULE", NoExecute = "NO_EXECUTE", PreferNoSchedule = "PREFER_NO_SCHEDULE" }
}

resource "aws_kms_key" "this" {
  description         = "Everything that ${local.name} keeps"
  enable_key_rotation = true
}

resource "aws_eks_cluster" "this" {
  name                          = local.name
  version                       = var.kubernetes_version
  role_arn                      = aws_iam_role.cluster.arn
  bootstrap_self_managed_addons = false
  enabled_cluster_log_types     = ["api", "audit", "authenticator"]

  access_config {
    authentication_mode                         = "API"
    bootstrap_cluster_creator_admin_permissions = false
  }

  encryption_config {
    resources = ["secrets"]
    provider { key_arn = aws_kms_key.this.arn }
  }

  vpc_config {
    subnet_ids              = var.subnet_ids
    endpoint_private_access = true
    endpoint_public_access  = length(var.api_from) > 0
    public_access_cidrs     = length(var.api_from) > 0 ? var.api_from : null
  }

  depends_on = [aws_iam_role_policy_attachment.cluster]
}

# The network plug-in enforces network policies only where it is told to.
resource "aws_eks_addon" "this" {
  for_each = {
    vpc-cni                = jsonencode({ enableNetworkPolicy = "true" })
    kube-proxy             = null
    coredns                = null
    eks-pod-identity-agent = null
  }

  cluster_name         = aws_eks_cluster.this.name
  addon_name           = each.key
  configuration_values = each.value
}

resource "aws_launch_template" "pool" {
  for_each = local.pools

  name_prefix = "${local.name}-${each.key}-"

  block_device_mappings {
    device_name = "/dev/xvda"
    ebs {
      volume_size = var.pools[each.key].disk_gib
      volume_type = "gp3"
      encrypted   = true
    }
  }

  # Pods have identities of their own: one hop keeps that of the node out of their reach.
  metadata_options {
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }
}

resource "aws_eks_node_group" "pool" {
  for_each = local.pools

  cluster_name    = aws_eks_cluster.this.name
  node_group_name = each.key
  node_role_arn   = aws_iam_role.node.arn
  subnet_ids      = var.subnet_ids
  instance_types  = var.pools[each.key].instance_types
  capacity_type   = each.value.spot ? "SPOT" : "ON_DEMAND"
  ami_type        = each.value.gpus ? "AL2023_x86_64_NVIDIA" : "AL2023_x86_64_STANDARD"
  labels          = each.value.labels

  launch_template {
    id      = aws_launch_template.pool[each.key].id
    version = aws_launch_template.pool[each.key].latest_version
  }

  scaling_config {
    min_size     = var.pools[each.key].smallest
    desired_size = var.pools[each.key].smallest
    max_size     = var.pools[each.key].largest
  }

  update_config { max_unavailable = 1 }

  dynamic "taint" {
    for_each = each.value.taints
    content {
      key    = taint.value.key
      value  = lookup(taint.value, "value", null)
      effect = taint.value.effect
    }
  }

  # How many there are is for an autoscaler to say.
  lifecycle { ignore_changes = [scaling_config[0].desired_size] }

  depends_on = [aws_iam_role_policy_attachment.node, aws_eks_addon.this]
}
