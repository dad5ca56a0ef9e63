# The cluster, the name, and all servers by name with the arguments of etcd_server, in JSON.
terraform import 'etcd_role.app' '{
  "cluster": "main",
  "name": "app",
  "servers": {
    "a1": { "network": "site-a", "private_address": "10.0.0.11", "public_address": "203.0.113.11" },
    "b1": { "network": "site-b", "private_address": "10.0.0.11", "public_address": "203.0.113.21" },
    "c1": { "network": "site-c", "private_address": "192.168.7.31", "public_address": "203.0.113.30" }
  }
}'
