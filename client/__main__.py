"""python -m client, which deploy.sh runs."""

from client.main import main

main()
