# The arguments of the server, in JSON.
terraform import 'etcd_server.this["a1"]' '{
  "name": "a1", "network": "site-a", "private_address": "10.0.0.11", "public_address": "203.0.113.11"
}'
