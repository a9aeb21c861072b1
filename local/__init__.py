"""An embedded AWS: S3, IAM, CloudFormation and Lambda on this machine, without account, Docker or root."""
