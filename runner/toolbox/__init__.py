"""The toolbox: the first process of a job's container. Standard library only; imports nothing else of runner."""
