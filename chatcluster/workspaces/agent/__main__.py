from chatcluster.workspaces.agent.program import main

main()
