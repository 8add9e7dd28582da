# A policy from Terraform: rendered, checked while planning, applied when its text changes. Needs the command line `fettle` and
# FETTLE_SERVER and FETTLE_TOKEN_FILE of an admin where Terraform runs. No provider: policies are files, and the server keeps
# every version with who applied it.
variable "environments" {
  type = map(object({ approvals = number, urgent_deadline = string, standard_deadline = string, bake = string }))
  default = {
    staging = { approvals = 0, urgent_deadline = "1d", standard_deadline = "7d", bake = "10m" }
    prod    = { approvals = 1, urgent_deadline = "3d", standard_deadline = "30d", bake = "1h" }
  }
}

locals {
  policies = {
    for name, it in var.environments : name => templatefile("${path.module}/policy.toml.tftpl", merge(it, {
      name        = name
      description = "Hosts labelled env=${name}"
      select      = "env=${name}"
    }))
  }
}

resource "terraform_data" "policy" {
  for_each         = local.policies
  triggers_replace = each.value

  provisioner "local-exec" {
    environment = { POLICY = each.value, NAME = each.key }
    command     = <<-SH
      set -eu
      file=$(mktemp -d)/$NAME.toml
      printf '%s' "$POLICY" > "$file"
      fettle policy check "$file"
      fettle policy diff "$file"
      fettle policy apply "$file"
    SH
  }
}
