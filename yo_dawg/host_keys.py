"""Fingerprints of the SSH host keys that large hosts publish."""

from __future__ import annotations

PUBLISHED_HOST_KEYS = {
    # docs.github.com: "GitHub's SSH key fingerprints"; also https://api.github.com/meta
    "github.com": (
        "SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU",  # ed25519
        "SHA256:p2QAMXNIC1TJYWeIOttrVc98/R1BUFWu3/LiyKgUfQM",  # ecdsa
        "SHA256:uNiVztksCsDhcc0u9e8BujQXVUpKZIDTMczCvj3tD2s",  # rsa, since March 2023
    ),
    # docs.gitlab.com: "GitLab.com settings", SSH host keys fingerprints
    "gitlab.com": (
        "SHA256:eUXGGm1YGsMAS7vkcx6JOJdOGHPem5gQp4taiCfCLB8",  # ed25519
        "SHA256:HbW3g8zUjNSksFbqTiUWPWg2Bq1x8xdGUrliXFzSnUw",  # ecdsa
        "SHA256:ROQFvPThGrW4RuWLoL9tq9I9zJ42fK4XywyRtbOz/EQ",  # rsa
    ),
    # support.atlassian.com: "Configure SSH and two-step verification", since June 2023
    "bitbucket.org": (
        "SHA256:ybgmFkzwOSotHTHLJgHO0QN8L0xErw6vd0VhFA9m3SM",  # ed25519
        "SHA256:FC73VB6C4OQLSCrjEayhMp9UMxS97caD/Yyi2bhW/J0",  # ecdsa
        "SHA256:46OSHA1Rmj8E8ERTC6xkNcmGOw9oFxYr0WF6zWW8l1E",  # rsa
    ),
}
"""Fingerprints of the SSH host keys that these hosts publish: good without a line in known_hosts."""
