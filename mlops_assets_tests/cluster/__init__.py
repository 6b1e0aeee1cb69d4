"""The simulated cluster: Kubernetes's API on loopback, its controllers, and pods that are processes of this machine.

It models what a step can meet on a cluster. It is no Kubernetes: docs/simulated-cluster.md says what it leaves out.
"""
