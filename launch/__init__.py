"""The front door: the cosface command and the ways of starting a job."""
