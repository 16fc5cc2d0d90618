from chatcluster.cli import main

main()
