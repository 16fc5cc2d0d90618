from chatcluster.cli.commands import main

main()
