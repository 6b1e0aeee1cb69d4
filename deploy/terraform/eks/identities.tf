data "aws_iam_policy_document" "service" {
  for_each = { cluster = "eks.amazonaws.com", node = "ec2.amazonaws.com" }

  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = [each.value]
    }
  }
}

resource "aws_iam_role" "cluster" {
  name               = "${local.name}-cluster"
  assume_role_policy = data.aws_iam_policy_document.service["cluster"].json
}

resource "aws_iam_role_policy_attachment" "cluster" {
  role       = aws_iam_role.cluster.name
  policy_arn = "arn:aws:iam::aws:policy/AmazonEKSClusterPolicy"
}

resource "aws_iam_role" "node" {
  name               = "${local.name}-node"
  assume_role_policy = data.aws_iam_policy_document.service["node"].json
}

resource "aws_iam_role_policy_attachment" "node" {
  for_each = toset(["AmazonEKSWorkerNodePolicy", "AmazonEKS_CNI_Policy", "AmazonEC2ContainerRegistryPullOnly"])

  role       = aws_iam_role.node.name
  policy_arn = "arn:aws:iam::aws:policy/${each.key}"
}

resource "aws_iam_openid_connect_provider" "this" {
  url            = aws_eks_cluster.this.identity[0].oidc[0].issuer
  client_id_list = ["sts.amazonaws.com"]
}

locals {
  issuer = replace(aws_eks_cluster.this.identity[0].oidc[0].issuer, "https://", "")
  # Who may do what with which bucket. Anchors are added and read, and never deleted.
  read   = ["s3:GetObject"]
  write  = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"]
  append = ["s3:GetObject", "s3:PutObject"]
  roles = {
    dagster = { accounts = ["mlops-dagster"], buckets = { home = local.write, anchors = local.append } }
    run     = { accounts = ["mlops-run", "mlops-step", "mlops-code", "mlops-watch"], buckets = { home = local.write, anchors = local.append } }
    mlflow  = { accounts = ["mlops-mlflow"], buckets = { mlflow = local.write } }
    read    = { accounts = ["mlops-exporter"], buckets = { home = local.read, anchors = local.read } }
  }
}

data "aws_iam_policy_document" "assume" {
  for_each = local.roles

  statement {
    actions = ["sts:AssumeRoleWithWebIdentity"]
    principals {
      type        = "Federated"
      identifiers = [aws_iam_openid_connect_provider.this.arn]
    }
    condition {
      test     = "StringEquals"
      variable = "${local.issuer}:aud"
      values   = ["sts.amazonaws.com"]
    }
    condition {
      test     = "StringEquals"
      variable = "${local.issuer}:sub"
      values   = [for account in each.value.accounts : "system:serviceaccount:${var.namespace}:${account}"]
    }
  }
}

data "aws_iam_policy_document" "store" {
  for_each = local.roles

  dynamic "statement" {
    for_each = each.value.buckets
    content {
      actions   = statement.value
      resources = ["${aws_s3_bucket.this[statement.key].arn}/*"]
    }
  }
  statement {
    actions   = ["s3:ListBucket"]
    resources = [for bucket in keys(each.value.buckets) : aws_s3_bucket.this[bucket].arn]
  }
  statement {
    actions   = each.key == "read" ? ["kms:Decrypt"] : ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = [aws_kms_key.this.arn]
  }
}

resource "aws_iam_role" "platform" {
  for_each = local.roles

  name               = "${local.name}-${each.key}"
  assume_role_policy = data.aws_iam_policy_document.assume[each.key].json
}

resource "aws_iam_role_policy" "store" {
  for_each = local.roles

  name   = "store"
  role   = aws_iam_role.platform[each.key].id
  policy = data.aws_iam_policy_document.store[each.key].json
}
