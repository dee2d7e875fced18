"""What a stack would be, worked out from its program alone: no account, no credentials, no Pulumi CLI."""
