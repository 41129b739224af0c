from torch.utils.data import Sampler


class ResumableSampler(Sampler):
    def watch(self, loader):
        pass

    def inexact(self, loader):
        return None
