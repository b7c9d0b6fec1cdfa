"""From raw data to views: the archive and its index, decoded pixels, augmentation."""
