"""What answers cost: energy and time by variant, user, alias and day, money from stated prices, beside the cloud's."""
