"""`cosface bench`: what things cost here, beside what else there is and what the machine allows."""
