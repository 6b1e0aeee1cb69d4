variable "region" {
  description = "Where everything is."
  type        = string
}

variable "environment" {
  description = "dev, staging or prod: a part of every name."
  type        = string

  validation {
    condition     = contains(["dev", "staging", "prod"], var.environment)
    error_message = "The environment is dev, staging or prod, as in deploy/helm."
  }
}

variable "vpc_id" {
  description = "The network."
  type        = string
}

variable "subnet_ids" {
  description = "Private subnets of it, in two zones or more, with a way to AWS's endpoints."
  type        = list(string)

  validation {
    condition     = length(var.subnet_ids) >= 2
    error_message = "EKS and RDS need subnets in two zones or more."
  }
}

variable "kubernetes_version" {
  description = "A version that EKS still supports."
  type        = string
  default     = "1.33"
}

variable "api_from" {
  description = "From where Kubernetes's API is reached over the internet; empty: from the network alone."
  type        = list(string)
  default     = []

  validation {
    condition     = !contains(var.api_from, "0.0.0.0/0")
    error_message = "Name the networks that administer the cluster: the API is not for everybody."
  }
}

variable "namespace" {
  description = "The namespace of the platform."
  type        = string
  default     = "mlops"
}

variable "pools" {
  description = "Which machines stand behind each pool of deploy/cluster-model/eks.yaml, and how many."
  type = map(object({
    instance_types = list(string)
    smallest       = number
    largest        = number
    disk_gib       = optional(number, 100)
    labels         = optional(map(string), {})
  }))
  default = {
    cpu        = { instance_types = ["m7i.4xlarge"], smallest = 2, largest = 20 }
    gpu        = { instance_types = ["g6.2xlarge"], smallest = 0, largest = 8, disk_gib = 200 }
    gpu-4x     = { instance_types = ["g6.12xlarge"], smallest = 0, largest = 2, disk_gib = 200 }
    gpu-mig    = { instance_types = ["p5.4xlarge"], smallest = 0, largest = 1, disk_gib = 200, labels = { "nvidia.com/device-plugin.config" = "sliced" } }
    gpu-shared = { instance_types = ["g6.2xlarge"], smallest = 0, largest = 2, disk_gib = 200, labels = { "nvidia.com/device-plugin.config" = "shared-by-time" } }
    gpu-spot   = { instance_types = ["g6.2xlarge", "g5.2xlarge"], smallest = 0, largest = 16, disk_gib = 200 }
  }

  validation {
    condition     = alltrue([for pool in values(var.pools) : pool.smallest <= pool.largest && length(pool.instance_types) > 0])
    error_message = "Every pool needs a kind of machine, and at least as many at most as at least."
  }
}

variable "database" {
  description = "PostgreSQL: its size, and how long it can be put back to."
  type = object({
    instance_class = optional(string, "db.m7g.large")
    storage_gib    = optional(number, 100)
    backup_days    = optional(number, 14)
    two_zones      = optional(bool, true)
  })
  default = {}
}

variable "anchor_days" {
  description = "For how many days nobody can delete an anchor of the ledger."
  type        = number
  default     = 3650
}
